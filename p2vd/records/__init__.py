"""What happened: receipts and audit."""
