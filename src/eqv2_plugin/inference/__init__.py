"""What commands and runners that predict share."""
