"""The console for programs: the same roles, the same dependencies, described by OpenAPI."""
