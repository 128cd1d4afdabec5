"""Ways of using synthetic faces in the training of classifiers."""
