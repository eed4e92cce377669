"""Services beside L1: audit, hot keys, refills, strict acknowledgements, SWAPDB, TOUCH."""
