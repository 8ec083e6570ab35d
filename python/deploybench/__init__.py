"""deploybench: take a trained PyTorch image classifier to production, in Python and in C++, and measure what each way costs.

Importing this package imports nothing heavy; torch is imported by the verbs that need it.
"""

__version__ = "0.1.0"
