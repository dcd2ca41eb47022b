"""The small tested package behind the book *When Is Adversarial Training Regularization?*

Modules are named after the chapter they back; shared ground stands beside them.
``import advreg`` is light: every module is imported by name, and torch only by those
that need it.
"""

__version__ = "0.1.0"
