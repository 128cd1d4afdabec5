"""Studies: classifiers trained and tested on real and synthetic faces."""
