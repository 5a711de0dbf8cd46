"""What only a GPU needs: captured decodes, their buffers, and tokens chosen on the device."""
