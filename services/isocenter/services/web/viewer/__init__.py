"""The viewer OHIF: installed from its package, served at `/ohif/`."""
