"""``memorization``: pairs of models on disjoint images, and what they have learned of them."""
