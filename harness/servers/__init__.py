"""MLflow's UI and its model server, as child processes."""
