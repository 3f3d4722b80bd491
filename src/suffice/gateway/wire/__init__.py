"""What goes over the wire: requests read, responses, receipts and errors written."""
