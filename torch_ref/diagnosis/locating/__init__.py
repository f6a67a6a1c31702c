"""Where the first wrong quantity is, for what no known mistake explains."""
