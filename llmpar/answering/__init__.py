"""Questions → results: what was answered before is taken from there, the rest is asked, checked and asked again."""
