"""``lacon-sweep``: does a model under late constraints meet held-out conditions, at what cost?"""
