"""What tests need and the package itself never imports: a scripted engine on a real socket."""
