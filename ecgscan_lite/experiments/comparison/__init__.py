"""The four claims of the paper, each put to the test beside other methods on the same pages."""
