"""Carries tickets and grants between routers, replicas and the queue actor. Knows no HTTP and decides no order."""
