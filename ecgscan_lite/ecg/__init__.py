"""The electrocardiogram itself: leads, records and how they are read, statements, reports, and tasks."""
