"""``joint-eval``: how well are images drawn from maps, maps from images, and both together?"""
