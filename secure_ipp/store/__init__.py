"""Task records: one interface (`interface`), one module for each way to keep them."""
