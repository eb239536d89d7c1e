"""What plugin authors implement: one short file for each kind, standard library only."""
