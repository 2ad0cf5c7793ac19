"""Small networks that read pose, depth, mask and drawn parameters off a picture, trained on a data set's own truth."""
