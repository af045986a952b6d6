"""The electrocardiogram itself: leads, records and their readers, statements, reports, and tasks."""
