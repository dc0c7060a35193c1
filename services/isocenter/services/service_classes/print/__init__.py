"""Print management (PS3.4 Annex H): films of images, as SCP and SCU."""
