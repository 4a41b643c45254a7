"""METEOR: the two families of scores that the field prints under one name."""
