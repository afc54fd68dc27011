"""The models' own Python environments: what they are made of, how they are built, and which there are.

``<environments folder>/<name>/`` holds one of them:

    lock              held shared by those who use it, alone by whoever builds or removes it
    environment.json  what it is made of; there once it is whole
    used-by-…         one for each database whose services need it
    env/              the environment itself

It is built where it stays, since an environment cannot be moved; one without its ``environment.json`` was left behind
by a process that was killed, and whoever wants it next builds it anew.
"""
