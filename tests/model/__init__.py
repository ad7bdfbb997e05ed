"""A model of the hand-over of slots, which spin checks in every interleaving; README.rst has the details."""
