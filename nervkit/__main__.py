"""`python -m nervkit`"""

from nervkit.cli import main

main()
