"""Looking through labelled structures: what a data set holds and what is wrong with it."""
