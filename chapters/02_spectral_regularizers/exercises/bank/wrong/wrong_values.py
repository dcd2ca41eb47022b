# ex-training-level: at most 4
# ex-pnp-admm: at most 4
# ex-broken-post: at most 0
# ex-best-beta: at most 4
# ex-loo-risk: at most 4
# ex-broken-price: at most 0
"""The functions are those of the page, and every value that was to be predicted is wrong."""

import math

predicted, penalty, post_step, exponent, excess, price_step = (
    (1 / 3, 1.0),
    4.0,
    5,
    4 / 3,
    math.nan,
    4,
)
