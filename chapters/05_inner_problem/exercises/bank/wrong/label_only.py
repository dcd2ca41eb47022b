"""Pushes the logit of the label down, and does not look at its rivals."""

# ex-scale-free: at most 3

import numpy as np


def scale_free_loss(logits, y):
    return -logits[np.arange(len(y)), y]
