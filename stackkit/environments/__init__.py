"""From what a person names to what a machine can run.

``models`` turns a model URI into a digest and a folder, ``requirements`` reads what that asks for, ``choosing`` and
``python_environments`` make the environment it runs in, ``images`` an image, ``launch`` the command that serves it.
"""
