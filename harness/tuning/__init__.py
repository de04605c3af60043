"""The search: an Optuna study around the same run. It can be interrupted and resumed at any time."""
