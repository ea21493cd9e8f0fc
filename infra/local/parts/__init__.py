"""The parts of the stack on one machine, one module each."""
