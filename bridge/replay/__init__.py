"""`callbridge replay`: recordings through the same plane, gate, turns and provider as live calls."""
