"""Files for the leaderboards of OC20 and OC22: their layout, their ids, and checking them."""
