"""From what a person names to what a machine can run.

``models`` turns a model URI into a digest and a folder, ``launch`` into the command that serves it.
"""
