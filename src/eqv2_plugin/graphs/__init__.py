"""From structures to edges."""
