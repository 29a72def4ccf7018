"""Pages that need nothing but themselves: HTML from templates, with pictures embedded."""
