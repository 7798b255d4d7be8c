"""Real parts for local work: servers that speak the cloud services' own protocols, started and stopped from Python."""
