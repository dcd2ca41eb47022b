# ex-broken-truncation: at most 0
# ex-broken-saturation: at most 0
# ex-boundary-rates: at most 6
# ex-discrepancy-saturates: at most 4
"""The solutions' functions with wrong numbers: nothing was understood of the proofs."""

truncation_step = 2
saturation_step = 4
predicted = {"t": 1, "t(1-t)": 1, "(1-t)^3": 1, "1-3t^2+2t^3": 1}
exponent = 2 / 3
