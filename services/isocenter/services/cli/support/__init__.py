"""Options, output and endings that several commands share."""
