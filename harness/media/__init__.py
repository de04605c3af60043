"""Pictures, animations and typeset digits. Needs neither torch nor a tracker."""
