"""Measurements that docs/performance.md quotes; each is a program and says what it found."""
