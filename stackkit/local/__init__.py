"""The ``local`` flavor: each model server is a supervised process of this machine that outlives whoever started it."""
