"""The command line. It parses, asks the Client, and prints; everything that decides anything is elsewhere.

Its modules import click and the standard library alone at their top, and the rest inside the commands, so that
``--help`` is answered at once.
"""
