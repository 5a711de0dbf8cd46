"""Places. Ray Core and the world outside: placement groups, rank groups, the autoscaling adapter."""
