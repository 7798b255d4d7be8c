"""What happens to an event: pure logic, and the thin Beam transforms around it."""
