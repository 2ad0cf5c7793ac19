"""Camera files of other programs: one module for each, all to and from `Shot`."""
