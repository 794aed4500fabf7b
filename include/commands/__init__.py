"""One module for each command of `include.cli`: ``add_parser(subparsers)``, and a function that its parser runs."""
