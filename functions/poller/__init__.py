"""Time comes in: the handlers of the schedule and of the queues."""
