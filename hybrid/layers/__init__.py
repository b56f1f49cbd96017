"""What may lie between an accepted socket and its handler. A handler without a layer pays for none."""
