"""`python -m deploybench`: the same as the `deploybench` command."""

import signal
import sys

# Until main() listens, Ctrl-C ends the program without a word: there is nothing to clean, and Python's word is a traceback.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from deploybench.cli import main

sys.exit(main())
