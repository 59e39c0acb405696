"""How much of it is needed: this machine measured, a fleet of servers simulated, and what it says."""
