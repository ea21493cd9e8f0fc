"""What runs beside the functions: the schema, the stack on one machine, the reference Workbench."""
